# SPDX-License-Identifier: Apache-2.0
# Remora in an image that holds the binary, the libraries it is linked to, and nothing else.
#   docker build -t remora .
#   docker run --network container:my-app remora run --registry zookeeper://zookeeper:2181
FROM rust:1.95-slim-bookworm AS build
# The image's own toolchain: rust-toolchain.toml also asks for tools that a build does not need.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
COPY . .
RUN cargo build --locked --profile dist --bin remora
# What the binary needs at run time, at the paths where the loader looks; glibc resolves names without further files.
RUN mkdir -p /image/usr/bin /image/var/lib/remora /image/etc/remora /image/tmp \
    && cp target/dist/remora /image/usr/bin/remora \
    && for file in $(ldd target/dist/remora | grep -o '/[^ ]*'); do mkdir -p "/image$(dirname "$file")" && cp -L "$file" "/image$file"; done \
    && echo 'remora:x:65532:65532::/var/lib/remora:/sbin/nologin' > /image/etc/passwd \
    && echo 'remora:x:65532:' > /image/etc/group \
    && chown -R 65532:65532 /image/var/lib/remora

FROM scratch
COPY --from=build /image /
USER 65532:65532
VOLUME /var/lib/remora
# Ingress of Dubbo and bolt only: the other doors listen on loopback, for an application in the same network namespace.
EXPOSE 20881 12201
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/usr/bin/remora", "wait", "--timeout", "3s"]
ENTRYPOINT ["/usr/bin/remora"]
CMD ["run"]
