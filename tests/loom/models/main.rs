//! The models; lib.rs tells what they are.

mod generations;
mod places;
mod pool_models;
mod ready_list;
mod sends;
mod waking;
