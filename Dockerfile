# A server: the runtime and onnxruntime, neither torch nor a compiler.
#   docker build -t ccm .
#   docker run --rm -p 127.0.0.1:7070:7070 -v "$PWD/bundle:/bundle:ro" -v "$PWD/secrets:/secrets:ro" \
#     -e CCM_METRICS_PORT=9090 --stop-timeout 15 ccm \
#     serve /bundle --host 0.0.0.0 --tls-cert /secrets/tls.crt --tls-key /secrets/tls.key --token-file /secrets/tokens
# The health check asks the port that CCM_METRICS_PORT names, and nobody where it is not set; a stop lasts --drain-s and a moment.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY ccm_runtime ccm_runtime
COPY training training
COPY export export
COPY proto proto
COPY .ci/constraints.txt constraints.txt
RUN python -m venv /opt/ccm && /opt/ccm/bin/pip install --no-cache-dir -c constraints.txt '.[serve,redis,sign]'

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home ccm && install -d -o ccm /var/lib/ccm
COPY --from=build /opt/ccm /opt/ccm
ENV PATH=/opt/ccm/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
VOLUME /var/lib/ccm
EXPOSE 7070 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import os, urllib.request as r; p = os.environ.get('CCM_METRICS_PORT'); p and r.urlopen(f'http://127.0.0.1:{p}/live', timeout=2)"]
ENTRYPOINT ["ccm"]
CMD ["serve"]
