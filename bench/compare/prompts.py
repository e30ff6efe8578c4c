"""The token ids that `longspan bench --seed 0` draws, so that every engine gets the same prompts: std::mt19937_64, modulo
the vocabulary; first the prompt of the warm-up, then one prompt a repeat."""
WORD = (1 << 64) - 1
SIZE, SHIFT = 312, 156


def draws(seed):
    state = [seed]
    for i in range(1, SIZE):
        state.append((6364136223846793005 * (state[-1] ^ (state[-1] >> 62)) + i) & WORD)
    while True:
        for i in range(SIZE):
            x = (state[i] & ~((1 << 31) - 1)) | (state[(i + 1) % SIZE] & ((1 << 31) - 1))
            state[i] = state[(i + SHIFT) % SIZE] ^ (x >> 1) ^ (0xB5026F5AA96619E9 if x & 1 else 0)
        for x in state:
            x ^= (x >> 29) & 0x5555555555555555
            x ^= (x << 17) & 0x71D67FFFEDA60000
            x ^= (x << 37) & 0xFFF7EEE000000000
            yield x ^ (x >> 43)


def prompts(length, count, vocab, seed=0):
    """The first `count` prompts of `length` tokens; the first one is the warm-up's."""
    source = draws(seed)
    return [[next(source) % vocab for _ in range(length)] for _ in range(count)]


if __name__ == "__main__":  # the standard's own check value: the 10,000th number of the default seed
    import itertools
    assert next(itertools.islice(draws(5489), 9999, None)) == 9981545732273789042
