# The base for machines that reach no registry: Debian's Python, its libraries and nothing else.
# Made by `python -m workloads.images` under the very name that the other Dockerfiles give in FROM,
# so that where a registry serves that name, they use it unchanged.
FROM scratch AS unpacked
ADD rootfs.tar /
# Byte code now, since containers run with a read-only root. Unchecked: the files cannot change any more.
RUN ["/usr/bin/python3", "-m", "compileall", "-q", "-j0", "--invalidation-mode", "unchecked-hash", "/usr/lib/python3.11"]

FROM scratch
COPY --from=unpacked / /
ENV PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8
LABEL org.opencontainers.image.title="Debian bookworm's Python 3.11, trimmed" \
      sluice.base="made locally"
CMD ["python3"]
