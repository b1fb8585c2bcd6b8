//! Files with secrets, which nobody else can read.

mod file;

pub use file::{
    file_unusable, read_or_create_secret_file, read_secret_file, replace_file, replace_secret_file,
};
