# -slim, not -alpine: lupa and psycopg-binary have no wheels for musl.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /build && python -m venv /app
WORKDIR /src
COPY requirements/app.txt requirements/build.txt requirements/
RUN /app/bin/pip install --no-deps --require-hashes -r requirements/app.txt \
    && /build/bin/pip install --no-deps --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md ./
COPY dispatcher dispatcher
COPY workers workers
COPY migrations migrations
RUN /build/bin/hatchling build -t wheel -d /dist && /app/bin/pip install --no-deps /dist/*.whl

FROM ${BASE}
RUN useradd --system --uid 10001 --home-dir /nonexistent dispatcher
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1
USER dispatcher
WORKDIR /tmp
ENTRYPOINT ["dispatcher"]
CMD ["--help"]
