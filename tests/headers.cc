// What the precompiled headers of the tests are compiled for.
