# One recipe for every party. `base` has no torch and runs all but the worker; `worker` adds the engine; `worker-gpu` adds
# the C compiler that Triton makes its launchers with. All three begin from nothing and hold an interpreter, a venv and the
# libraries these are linked with: no shell, no package manager, no other program (deploy/container/root.py).
#   docker build --target base       -t sottovoce-base .
#   docker build --target worker     -t sottovoce-worker --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
#   docker build --target worker-gpu -t sottovoce-worker-gpu .

# The one image that something is taken from, by its digest; docs/deployment.md says how to renew it.
ARG PYTHON_IMAGE=docker.io/library/python:3.11.15-bookworm@sha256:a8f8fbe1a0edc9e4dddafa64ba73f7e04be7be5ebc23f332362e779e0a2e4e52

FROM ${PYTHON_IMAGE} AS venv
WORKDIR /source
ENV PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN python3 -m venv /opt/sottovoce
COPY constraints.txt .

FROM venv AS build
COPY . .
RUN /opt/sottovoce/bin/pip install --constraint constraints.txt . \
 && cp deploy/container/health.py /opt/sottovoce/health.py

FROM build AS base-root
RUN python3 deploy/container/root.py /root-of-image /opt/sottovoce

FROM venv AS torch
ARG TORCH_INDEX=
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends pkg-config libtss2-dev
RUN /opt/sottovoce/bin/pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url} ${TORCH_INDEX} torch

FROM torch AS build-worker
COPY . .
RUN /opt/sottovoce/bin/pip install --constraint constraints.txt '.[engine,tpm]' \
 && cp deploy/container/health.py /opt/sottovoce/health.py

FROM build-worker AS worker-root
RUN python3 deploy/container/root.py /root-of-image /opt/sottovoce

FROM build-worker AS worker-gpu-root
RUN python3 deploy/container/root.py /root-of-image /opt/sottovoce --compiler

FROM scratch AS base
COPY --from=base-root /root-of-image /
ENV PATH=/opt/sottovoce/bin PYTHONDONTWRITEBYTECODE=1 SOTTOVOCE_HEALTH=http://127.0.0.1:8080/health
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=6s --start-period=60s CMD ["/opt/sottovoce/bin/python3", "/opt/sottovoce/health.py"]
ENTRYPOINT ["/opt/sottovoce/bin/sottovoce"]

FROM scratch AS worker
COPY --from=worker-root /root-of-image /
ENV PATH=/opt/sottovoce/bin PYTHONDONTWRITEBYTECODE=1 SOTTOVOCE_HEALTH=http://127.0.0.1:8080/health
USER 10001:10001
# A large model takes minutes to read and to hash.
HEALTHCHECK --interval=15s --timeout=6s --start-period=20m CMD ["/opt/sottovoce/bin/python3", "/opt/sottovoce/health.py"]
ENTRYPOINT ["/opt/sottovoce/bin/sottovoce"]
CMD ["worker", "--help"]

FROM scratch AS worker-gpu
COPY --from=worker-gpu-root /root-of-image /
ENV PATH=/opt/sottovoce/bin PYTHONDONTWRITEBYTECODE=1 SOTTOVOCE_HEALTH=http://127.0.0.1:8080/health
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=6s --start-period=20m CMD ["/opt/sottovoce/bin/python3", "/opt/sottovoce/health.py"]
ENTRYPOINT ["/opt/sottovoce/bin/sottovoce"]
CMD ["worker", "--help"]
