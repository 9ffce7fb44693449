# syntax=docker/dockerfile:1
# Two images from one file: `--target operator` (no torch) and `--target trainer`.
# BASE is any image with Python 3.11 or newer as python3; PIP_ARGS reaches pip, for a mirror or a
# CPU build of torch. Every file that pip fetches must have the hash that the lock names; VERIFY=no
# leaves that out, for an index whose files are others, such as that of CPU builds.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS source
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY trainer trainer
COPY client client

FROM ${BASE} AS build
ARG PIP_ARGS=""
ARG VERIFY=yes
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/trainyard
WORKDIR /src

# Dependencies first: they change less often than the source.
FROM build AS build-operator
COPY requirements-operator.lock requirements.lock
RUN test "$VERIFY" = yes || sed -i -e 's/ \\$//' -e '/--hash=/d' requirements.lock; \
    /opt/trainyard/bin/pip install --no-compile --no-deps ${PIP_ARGS} -r requirements.lock
COPY --from=source /src /src
# Byte code only of what the operator imports: most of the Kubernetes client is never loaded.
RUN /opt/trainyard/bin/pip install --no-compile --no-deps ${PIP_ARGS} . && \
    /opt/trainyard/bin/pip uninstall --yes --quiet setuptools pip && \
    /opt/trainyard/bin/python3 -m trainyard_operator --help > /dev/null

FROM build AS build-trainer
COPY requirements-trainer.lock requirements.lock
RUN test "$VERIFY" = yes || sed -i -e 's/ \\$//' -e '/--hash=/d' requirements.lock; \
    /opt/trainyard/bin/pip install --no-deps ${PIP_ARGS} -r requirements.lock
COPY --from=source /src /src
RUN /opt/trainyard/bin/pip install --no-deps ${PIP_ARGS} .

FROM ${BASE} AS runtime
ARG VERSION=0.1.0
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# USER: the uid has no entry in /etc/passwd, and libraries ask for the user's name.
ENV PATH=/opt/trainyard/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp USER=trainyard
USER 65532:65532

FROM runtime AS operator
LABEL org.opencontainers.image.title="Trainyard operator" \
      org.opencontainers.image.description="Runs the TrainingJobs of a Kubernetes cluster"
COPY --from=build-operator /opt/trainyard /opt/trainyard
ENTRYPOINT ["python3", "-m", "trainyard_operator"]

FROM runtime AS trainer
LABEL org.opencontainers.image.title="Trainyard trainer" \
      org.opencontainers.image.description="Launcher, engine and recipes of TrainingJobs"
COPY --from=build-trainer /opt/trainyard /opt/trainyard
CMD ["python3", "-m", "trainyard_trainer"]
