//! What albedo promises, seen from outside.

mod check; // configurations good and bad
