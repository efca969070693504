//! The program `parlour-client`: a person or a script on one side, the library on the other.

pub mod args;
pub mod chat;
pub mod desk;
pub mod faults;
pub mod password;
pub mod report;
pub mod run;
pub mod screen;
pub mod stdin;
pub mod talk;
pub mod words;
