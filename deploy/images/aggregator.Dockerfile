# The aggregator's image where there is a container engine, from the repository's root:
#
#     docker build -f deploy/images/aggregator.Dockerfile -t prescale.dev/prescale-aggregator:0.1.0 .
#
# The content is what `cargo xtask images aggregator` makes, by that very command.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo xtask images aggregator
RUN mkdir /image \
    && tar -xOf target/images/prescale-aggregator.tar layer.tar | tar -x -C /image \
    && test -x /image/prescale-aggregator

FROM scratch
COPY --from=build /image/ /
USER 65534:65534
WORKDIR /
ENTRYPOINT ["/prescale-aggregator"]
LABEL org.opencontainers.image.title="prescale-aggregator" \
      org.opencontainers.image.description="Forecasts load and plans replicas" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/prescale/prescale"
