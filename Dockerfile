# syntax=docker/dockerfile:1
# Two images from one file: `--target operator` (no torch) and `--target trainer`.
# BASE is any image with Python 3.11 or newer as python3; PIP_ARGS reaches pip, for a mirror or a
# CPU build of torch.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS source
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY operator operator
COPY trainer trainer
COPY client client

FROM ${BASE} AS build
ARG PIP_ARGS=""
RUN python3 -m venv /opt/trainyard
WORKDIR /src
COPY pyproject.toml requirements.lock ./

FROM build AS build-operator
COPY --from=source /src /src
RUN /opt/trainyard/bin/pip install --no-cache-dir ${PIP_ARGS} -c requirements.lock '.[operator]'

FROM build AS build-trainer
COPY --from=source /src /src
RUN /opt/trainyard/bin/pip install --no-cache-dir ${PIP_ARGS} -c requirements.lock '.[trainer]'

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="Trainyard" \
      org.opencontainers.image.licenses="Apache-2.0"
# USER: the uid has no entry in /etc/passwd, and libraries ask for the user's name.
ENV PATH=/opt/trainyard/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp USER=trainyard
USER 65532:65532

FROM runtime AS operator
COPY --from=build-operator /opt/trainyard /opt/trainyard
ENTRYPOINT ["python3", "-m", "trainyard_operator"]

FROM runtime AS trainer
COPY --from=build-trainer /opt/trainyard /opt/trainyard
CMD ["python3", "-m", "trainyard_trainer"]
