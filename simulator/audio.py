"""G.711 mu-law and WAV files. audioop left the standard library with Python 3.13."""

import functools
import math
import struct
import wave
from pathlib import Path

RATE = 8000
SILENCE = 0xFF  # mu-law zero


class UnusableWav(Exception):
    """A WAV file that cannot be played. The message says which format is needed."""


@functools.cache
def decoding_table() -> tuple[int, ...]:
    """Return the 16-bit sample of each of the 256 codes (ITU-T G.711)."""
    samples = []
    for code in range(256):
        inverted = ~code & 0xFF
        exponent, mantissa = inverted >> 4 & 7, inverted & 15
        magnitude = ((mantissa << 3) + 132 << exponent) - 132
        samples.append(-magnitude if inverted & 0x80 else magnitude)
    return tuple(samples)


def encode_sample(sample: int) -> int:
    """Return the code of one 16-bit sample, as the reference implementation truncates it."""
    # Fourteen bits and a bias of 33, as in the recommendation.
    magnitude, sign = (sample >> 2, 0) if sample >= 0 else (-(sample >> 2), 0x80)
    biased = min(magnitude + 33, 8191)
    exponent = biased.bit_length() - 6
    return ~(sign | exponent << 4 | biased >> exponent + 1 & 15) & 0xFF


@functools.cache
def encoding_table() -> bytes:
    """Return the codes of all samples, indexed by the sample as an unsigned number."""
    return bytes(encode_sample(n - 65536 if n > 32767 else n) for n in range(65536))


def encode(pcm: bytes) -> bytes:
    """Return mu-law for 16-bit little-endian samples."""
    table = encoding_table()
    return bytes(table[n] for (n,) in struct.iter_unpack("<H", pcm))


def decode(mulaw: bytes) -> bytes:
    """Return 16-bit little-endian samples for mu-law."""
    table = decoding_table()
    return struct.pack(f"<{len(mulaw)}h", *(table[code] for code in mulaw))


def tone(seconds: float = 1.0, hertz: float = 440.0) -> bytes:
    """Return a mu-law tone of half loudness."""
    count = int(seconds * RATE)
    wave_form = (int(16000 * math.sin(2 * math.pi * hertz * n / RATE)) for n in range(count))
    return encode(struct.pack(f"<{count}h", *wave_form))


def read_wav(path: Path) -> bytes:
    """Return a WAV file's sound as 8 kHz mono mu-law, or raise UnusableWav."""
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            pcm = file.readframes(file.getnframes())
    except OSError as error:
        raise UnusableWav(f"{path}: {error.strerror}") from error
    except (EOFError, wave.Error) as error:
        raise UnusableWav(f"{path} is no PCM WAV file") from error
    if not pcm:
        raise UnusableWav(f"{path} is empty")
    if width != 2 or rate % RATE or not rate:
        raise UnusableWav(
            f"{path}: {width * 8} bits at {rate} Hz; 16 bits at 8000 Hz or a multiple are needed"
        )
    # One output sample is the average over its channels and over the time it stands for.
    step = channels * rate // RATE
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    mono = [sum(samples[i : i + step]) // step for i in range(0, len(samples) - step + 1, step)]
    return encode(struct.pack(f"<{len(mono)}h", *mono))


def write_wav(path: Path, mulaw: bytes) -> None:
    """Write what was heard as 16-bit PCM at 8 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(decode(mulaw))
