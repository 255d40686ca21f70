//! The models; lib.rs tells what they are.

mod attention;
mod generations;
mod places;
mod pool_models;
mod sends;
mod waking;
