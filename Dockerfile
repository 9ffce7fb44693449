# syntax=docker/dockerfile:1
# Two images from one file: `--target operator` (no torch) and `--target trainer`.
# BASE is any image with Python 3.11 or newer as python3; PIP_ARGS reaches pip, for a mirror or a
# CPU build of torch. Every file that pip fetches must have the hash that the lock names; VERIFY=no
# leaves that out, for an index whose files are others, such as that of CPU builds.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# Packages in /opt/trainyard, what is ours in /opt/own: a new version of ours is a small layer.
FROM ${BASE} AS build
ARG PIP_ARGS=""
ARG VERIFY=yes
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/trainyard && \
    echo /opt/own > "$(/opt/trainyard/bin/python3 -c 'import site; print(site.getsitepackages()[0])')/own.pth"
WORKDIR /src
COPY images/install-lock /usr/local/bin/

FROM build AS own
COPY requirements-build.lock ./
RUN install-lock requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY trainer trainer
COPY client client
RUN /opt/trainyard/bin/pip install --no-deps --no-build-isolation --target /opt/own .

FROM build AS operator-packages
COPY requirements-operator.lock ./
RUN install-lock requirements-operator.lock --no-compile && \
    /opt/trainyard/bin/pip uninstall --yes --quiet setuptools pip
COPY --from=own /opt/own/trainyard_operator /opt/own/trainyard_operator
COPY images/unused_models.py ./
# Of the packages, byte code of what the operator loads, and no file of the Kubernetes client that
# it does not load.
RUN /opt/trainyard/bin/python3 unused_models.py && \
    /opt/trainyard/bin/python3 -m trainyard_operator --help > /dev/null

FROM build AS trainer-packages
COPY requirements-trainer.lock ./
RUN install-lock requirements-trainer.lock

FROM ${BASE} AS runtime
ARG VERSION=0.1.0
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# USER: the uid has no entry in /etc/passwd, and libraries ask for the user's name.
ENV PATH=/opt/trainyard/bin:/opt/own/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp USER=trainyard
USER 65532:65532

FROM runtime AS operator
LABEL org.opencontainers.image.title="Trainyard operator" \
      org.opencontainers.image.description="Runs the TrainingJobs of a Kubernetes cluster"
COPY --from=operator-packages /opt/trainyard /opt/trainyard
COPY --from=own /opt/own/trainyard_operator /opt/own/trainyard_operator
ENTRYPOINT ["python3", "-m", "trainyard_operator"]

FROM runtime AS trainer
LABEL org.opencontainers.image.title="Trainyard trainer" \
      org.opencontainers.image.description="Launcher, engine and recipes of TrainingJobs"
COPY --from=trainer-packages /opt/trainyard /opt/trainyard
COPY --from=own /opt/own /opt/own
CMD ["python3", "-m", "trainyard_trainer"]
