# The image is one static program; `make image` builds both. Whoever runs it says as whom (the chart does).
FROM scratch
ARG VERSION
LABEL org.opencontainers.image.title="limosa" \
      org.opencontainers.image.description="Live migration of virtual machines on OVN without a gap in the network" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY limosa /limosa
USER 65532:65532
ENTRYPOINT ["/limosa"]
