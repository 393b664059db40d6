# An image with ensemble-eval, for Kubernetes, and for Slurm with pyxis:
#     docker build --tag registry.example/ensemble-eval .
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY ensemble_eval ensemble_eval
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# The extras of pyproject.toml that the image has, such as --build-arg EXTRAS=cloud,report,cpu
ARG EXTRAS=cloud
COPY --from=build /wheels /wheels
RUN set -- /wheels/*.whl && pip install --no-cache-dir "$1[$EXTRAS]" \
    && useradd --uid 10001 --create-home worker
# A number, because Kubernetes cannot tell by a name that it is not root.
USER 10001
WORKDIR /home/worker
ENTRYPOINT ["ensemble-eval"]
