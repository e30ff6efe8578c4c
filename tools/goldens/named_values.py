"""What golden values are made of: element i of a name is splitmix64(fnv1a64(name) + i), as in tests/support/named_values.h."""
import numpy as np


def fnv1a64(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return value


def splitmix64(x):
    """Of a numpy array of uint64."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def random_bits(name, count):
    with np.errstate(over="ignore"):
        return splitmix64(np.uint64(fnv1a64(name)) + np.arange(count, dtype=np.uint64))


def uniform(name, count):
    """f64 in [-1, 1), each of them a multiple of 2^-23."""
    return (random_bits(name, count) >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0
