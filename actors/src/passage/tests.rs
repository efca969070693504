//! Passages over a living house.
