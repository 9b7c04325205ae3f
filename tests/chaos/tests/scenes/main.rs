//! Scenes of the whole product, whose workers write bytes instead of pictures: each says what was lost, doubled or
//! billed too often.

mod doubled;
mod emptied;
mod ends;
mod race;
mod runpod;
mod thousand;
