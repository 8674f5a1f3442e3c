//! Named cases of design §4 and §5, each played by hand in the same world.
