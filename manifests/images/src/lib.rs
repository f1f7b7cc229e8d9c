//! The project's container images, written without a container engine and without a base image.
//!
//! An image holds one static program and nothing else, so that it needs no base image and no shell. The `Dockerfile`
//! beside this library makes the same images where there is an engine; what both say of a program is in [`program`],
//! and a test holds the `Dockerfile` to it.
//!
//! | module | idea |
//! | --- | --- |
//! | [`program`] | which programs have an image, and what is said of them |
//! | [`mod@reference`] | what an image is called |
//! | [`architecture`] | which processor a program is for, and whether it runs alone |
//! | [`archive`] | images of one or more processors as one file |

pub mod architecture;
pub mod archive;
pub mod program;
pub mod reference;

pub use architecture::Architecture;
pub use archive::{Image, ImageError, Written, save, write};
pub use program::{PROGRAMS, Program};
pub use reference::{REGISTRY, Reference, TAG};
