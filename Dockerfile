# The phone line as an image. It holds no settings: they come from the environment when it starts.
# To change: workflow.json and its neighbours, before building.
# To start: see compose.yaml; or docker build -t voice-agent . and then
#   docker run --env-file .env --publish 5000:5000 --stop-timeout 45 voice-agent
# (docker run takes quotation marks in .env for part of a value; compose doesn't).
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PORT=5000
WORKDIR /app

# A layer of its own, which is built anew only when the requirements change
COPY requirements.txt .
RUN pip install --no-cache-dir --requirement requirements.txt

# What .dockerignore lets through
COPY . .

# A number, so that Kubernetes can tell that it isn't root
USER 10001
EXPOSE 5000
# While it drains it is unhealthy, and gets no more calls
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=2 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health')"]
# SIGTERM drains it, for up to 30 s: wait longer than that before killing it
STOPSIGNAL SIGTERM
CMD ["gunicorn", "app:app"]
