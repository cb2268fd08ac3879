# An image with nothing but albedo in it: one static, stripped binary, no shell, no root.
#
#   docker build -t albedo .
#   docker run -p 443:443 -p 8100:8100 -p 9494:9494 -v /etc/albedo:/etc/albedo:ro albedo
#
# Sessions outlive a container whose `load_balancer.cookie_keys.path` is on a volume that it may write to.
# `albedo upgrade` cannot replace the first process of a container, whose end is the container's: start another one.
# The admin address stays on loopback inside the container: `docker exec NAME /albedo status`.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /albedo
# gcc comes with the image; perl and cmake are not needed, aws-lc-sys brings what it builds.
COPY . .
# crt-static links glibc in, as a static PIE. glibc's name lookup, which cannot be linked so, is never
# called: names are resolved by hickory.
RUN RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --target "$(rustc -vV | sed -n 's/^host: //p')" \
 && mkdir -p /image/etc/albedo /image/var/log/albedo \
 && cp target/*/release/albedo /image/albedo
COPY config/albedo.yaml /image/etc/albedo/albedo.yaml

FROM scratch
LABEL org.opencontainers.image.title="albedo" \
      org.opencontainers.image.description="A software application load balancer" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=65532:65532 /image /
# A number, so that an orchestrator can see that it is not root without a user table.
USER 65532:65532
# Ports below 1024 need net.ipv4.ip_unprivileged_port_start=0, which container engines set.
EXPOSE 80 443 8080 8100 9494
VOLUME ["/etc/albedo"]
STOPSIGNAL SIGTERM
# 0 while every target group has a healthy target.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 CMD ["/albedo", "status"]
ENTRYPOINT ["/albedo"]
CMD ["run", "/etc/albedo/albedo.yaml"]
