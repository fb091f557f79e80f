# The server on a CPU. Build: docker build -t ferry .   Run: docker run -p 8000:8000 -v ./model_repository:/models ferry
FROM python:3.11-slim

# What is served besides plain .onnx files: text in, and OpenVINO where it is faster. --build-arg EXTRAS=text leaves 180 MB out.
ARG EXTRAS=text,openvino

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY optimizer optimizer
COPY loadtests loadtests
RUN pip install --no-cache-dir ".[${EXTRAS}]" \
    && useradd --system --uid 10001 ferry \
    && mkdir /models && chown ferry /models

USER ferry
VOLUME /models
EXPOSE 8000 8001 8002
ENV FERRY_REPOSITORY=/models FERRY_HOST=0.0.0.0
HEALTHCHECK --interval=10s --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=5)"]
ENTRYPOINT ["ferry"]
CMD ["serve"]
