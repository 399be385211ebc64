# One image recipe for every party. `base` has no torch and runs all but the worker; `worker` adds the engine.
#   docker build --target base   -t sottovoce-base .
#   docker build --target worker -t sottovoce-worker .
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/sottovoce
ENV PATH=/opt/sottovoce/bin:$PATH
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt .

FROM build AS build-worker
RUN pip install --no-cache-dir --constraint constraints.txt torch \
 && pip install --no-cache-dir --constraint constraints.txt '.[engine]'

FROM python:3.11-slim-bookworm AS base
RUN useradd --system --no-create-home --uid 10001 sottovoce \
 && install -d -o sottovoce -m 0700 /var/lib/sottovoce /run/sottovoce
COPY --from=build /opt/sottovoce /opt/sottovoce
ENV PATH=/opt/sottovoce/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER sottovoce
ENTRYPOINT ["sottovoce"]

FROM base AS worker
COPY --from=build-worker /opt/sottovoce /opt/sottovoce
CMD ["worker", "--help"]
