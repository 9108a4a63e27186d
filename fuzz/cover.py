#!/usr/bin/env python3
"""Chooses few small inputs that together reach most edges of the program.

    fuzz/cover.py CONTROL_FILE

libFuzzer writes CONTROL_FILE with -set_cover_merge and -merge_control_file. The script prints the
paths of the chosen inputs, those with most new edges first, up to a size that fits a repository.
libFuzzer's own choice reaches every edge, but needs thousands of inputs.
"""

import heapq
import sys

# Limits for each target.
MOST_BYTES = 200 << 10
MOST_INPUTS = 800


def read(path):
    """Returns the paths and sizes of the inputs, and the edges that each reaches."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        count = int(file.readline())
        file.readline()
        paths = [file.readline().rstrip("\n") for _ in range(count)]
        sizes, edges = [1] * count, [set() for _ in range(count)]
        for line in file:
            kind, number, *rest = line.split()
            if kind == "STARTED":
                sizes[int(number)] = int(rest[0]) + 1
            elif kind == "FT":
                edges[int(number)].update(rest)
    return paths, sizes, edges


def cover(sizes, edges):
    """Yields inputs greedily: next is the one with most new edges per square root of its size."""
    def worth(i, left):
        return left / (sizes[i] + 64) ** 0.5

    missing = set().union(*edges)
    heap = [(-worth(i, len(found)), i) for i, found in enumerate(edges)]
    heapq.heapify(heap)
    while missing:
        _, i = heapq.heappop(heap)
        new = len(edges[i] & missing)
        if not new:
            continue
        # The estimate is stale: other inputs were chosen since. Use it if it is still the best.
        if heap and -worth(i, new) > heap[0][0]:
            heapq.heappush(heap, (-worth(i, new), i))
            continue
        missing -= edges[i]
        yield i


def main():
    """Prints the chosen paths."""
    paths, sizes, edges = read(sys.argv[1])
    total, chosen, reached = 0, 0, set()
    for i in cover(sizes, edges):
        if chosen == MOST_INPUTS or total + sizes[i] > MOST_BYTES:
            break
        total, chosen = total + sizes[i], chosen + 1
        reached |= edges[i]
        print(paths[i])
    every = len(set().union(*edges))
    print(f"{chosen} inputs of {total} bytes reach {len(reached)} edges of {every}", file=sys.stderr)


main()
