# albert on processors alone, with a model inside, run by a user of its own.
#
#   docker build -t albert .                                # the built-in model, or
#   docker build -t albert --build-arg MODEL=albert-base-v2 .
#   docker run --rm -p 127.0.0.1:8080:8080 albert           # the server: http://127.0.0.1:8080/v1
#   docker run --rm -v "$PWD:/data" --user "$(id -u)" albert embed --in texts.txt --model /opt/model

FROM python:3.11-slim AS build
# A compiler, for the passes of int8 (albert_cli/model/passes.c).
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/albert && /opt/albert/bin/pip install --no-cache-dir --no-deps -c constraints.txt \
    --index-url https://download.pytorch.org/whl/cpu torch
COPY pyproject.toml README.md LICENSE ./
COPY albert_cli ./albert_cli
COPY converters ./converters
RUN /opt/albert/bin/pip install --no-cache-dir -c constraints.txt '.[plots,serve]'
ARG MODEL=built-in
RUN /opt/albert/bin/albert convert "$MODEL" /opt/model

FROM python:3.11-slim
RUN useradd --create-home albert
COPY --from=build /opt/albert /opt/albert
COPY --from=build /opt/model /opt/model
ENV PATH=/opt/albert/bin:$PATH
USER albert
WORKDIR /data
EXPOSE 8080
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health')"]
ENTRYPOINT ["albert"]
CMD ["serve", "--model", "/opt/model", "--host", "0.0.0.0"]
