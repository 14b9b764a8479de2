# The sample application's image where there is a container engine, from the repository's root:
#
#     docker build -f deploy/images/sample.Dockerfile -t prescale.dev/sample:0.1.0 .
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY deploy/sample/app .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /sample .

FROM scratch
COPY --from=build /sample /sample
USER 65534:65534
WORKDIR /
ENTRYPOINT ["/sample"]
LABEL org.opencontainers.image.title="sample" \
      org.opencontainers.image.description="An application to try Prescale on" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/prescale/prescale"
