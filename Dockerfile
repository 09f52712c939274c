# forklore in a container: docker build -t forklore . ; docs/recipes.md, "In a container", has how to run it.
#
# BASE: any image with Python 3.11 or newer and its venv module, the same C library as what is to be traced.
ARG BASE=python:3.13-slim

FROM $BASE AS build
COPY . /src/forklore
RUN python3 -m venv /opt/forklore && /opt/forklore/bin/pip install --no-cache-dir /src/forklore

FROM $BASE
COPY --from=build /opt/forklore /opt/forklore
# Not on PATH: what is traced finds the image's own Python first.
RUN ln -s /opt/forklore/bin/forklore /usr/local/bin/forklore
ENTRYPOINT ["/opt/forklore/bin/forklore"]
