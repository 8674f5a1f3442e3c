//! What the tests, the benchmarks and `cargo xtask` share: the product as a process, real clients, and eyes on both.

pub mod away;
pub mod cache;
pub mod census;
pub mod clips;
pub mod cluster;
pub mod encoders;
pub mod eventually;
pub mod failover;
pub mod flv;
pub mod http;
pub mod image;
pub mod installation;
pub mod load;
pub mod nal;
pub mod nginx;
pub mod objects;
pub mod player;
pub mod ports;
pub mod ps_sender;
pub mod publisher;
pub mod rtmp;
pub mod running;
pub mod soak;
pub mod standalone;
pub mod synthetic;
pub mod tools;
