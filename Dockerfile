# The server. On a processor: docker build -t ferry .
#             On a card:      docker build -t ferry:gpu --target gpu .
# Run: docker run -p 8000:8000 -v ./model_repository:/models ferry    (with a card: --gpus all, image ferry:gpu)
FROM python:3.11-slim AS base
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY optimizer optimizer
COPY loadtests loadtests
RUN useradd --system --create-home --uid 10001 ferry && mkdir /models && chown ferry /models
VOLUME /models
EXPOSE 8000 8001 8002
ENV FERRY_REPOSITORY=/models FERRY_HOST=0.0.0.0
HEALTHCHECK --interval=10s --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=5)"]
ENTRYPOINT ["ferry"]
CMD ["serve"]

# CUDA's libraries come as packages; the driver is the host's. The two builds of ONNX Runtime share one folder: only one may be installed.
FROM base AS gpu
ARG EXTRAS=gpu,text,json
RUN pip install --no-cache-dir ".[${EXTRAS}]" \
    && pip uninstall --yes onnxruntime onnxruntime-gpu \
    && pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]>=1.22"
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER ferry

# The last one is what is built when none is named. What is served besides plain .onnx files: text in, answers held to a schema, and OpenVINO where it is
# faster. --build-arg EXTRAS=text,json leaves 180 MB out.
FROM base AS cpu
ARG EXTRAS=text,json,openvino
RUN pip install --no-cache-dir ".[${EXTRAS}]"
USER ferry
