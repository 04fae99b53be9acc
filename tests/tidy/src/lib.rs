//! House rules that a compiler does not check: arrows between rooms, sizes of files, frozen WIT, words. All of it is in the tests.
