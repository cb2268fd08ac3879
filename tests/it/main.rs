//! What albedo promises, seen from outside.

mod check; // configurations good and bad
mod shipped_config; // the files of config/
