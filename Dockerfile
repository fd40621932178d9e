# The bridge on any host that runs containers; docs/deploy.md says how. No tool that builds stays in it.
FROM python:3.13-slim-bookworm AS build

WORKDIR /build
COPY requirements.txt constraints.txt ./
RUN python -m venv --without-pip /venv \
 && pip --python /venv/bin/python install --no-cache-dir -r requirements.txt \
 && mkdir /data

FROM python:3.13-slim-bookworm

# Nothing is written but to /data, /tmp and /dev/shm: the rest may be read-only.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DATABASE_URL=sqlite:////data/ledger.sqlite3

WORKDIR /bridge
COPY --from=build /venv /venv
COPY --from=build --chown=65534:65534 /data /data
COPY app.py gunicorn.conf.py ./
COPY bridge bridge
COPY providers providers
COPY templates templates
COPY migrations migrations

# A number, so that a platform can see that it is not root. Who runs it may not write the code.
USER 65534:65534
VOLUME /data
EXPOSE 8000

# A slim image has no curl.
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT', '8000')), timeout=2); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]

# The web line of the Procfile.
CMD ["gunicorn", "app:create_app()"]
