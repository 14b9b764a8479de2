# The agent's image where there is a container engine, from the repository's root:
#
#     docker build -f deploy/images/agent.Dockerfile -t prescale.dev/prescale-agent:0.1.0 .
#
# BuildKit is needed (Docker's default): it keeps the program's file capabilities when it copies. The content is what
# `cargo xtask images agent` makes, by that very command.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The compiler and linker for the kernel programs come as Debian packages; the task installs them.
RUN cargo xtask images agent
RUN mkdir /image \
    && tar -xOf target/images/prescale-agent.tar layer.tar \
    | tar -x --xattrs --xattrs-include=security.capability -C /image \
    && test -x /image/prescale-agent

FROM scratch
COPY --from=build /image/ /
USER 65534:65534
WORKDIR /
ENTRYPOINT ["/prescale-agent"]
LABEL org.opencontainers.image.title="prescale-agent" \
      org.opencontainers.image.description="Measures the requests of a node's pods with eBPF" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/prescale/prescale"
