//! The encoder plan: typed settings of an H.264 encoder, and ffmpeg's arguments made of them.
//!
//! Guarantee: frames lie in ordinary memory from the decoder to the encoder, whichever encoder it
//! is; nothing here asks for a GPU's decoder or filter, which the CPU's filters cannot read.

use super::ffmpeg::Args;

/// Bits a second that a picture of up to [`PICTURE_PX`] may have at its most lively, in thousands:
/// the old system's cap.
const MAXRATE_KBPS: u32 = 10_000;
/// Pixels of 1080p.
const PICTURE_PX: u32 = 1920 * 1080;
/// Frames between two keyframes at most, for either encoder: both have this default, and it is said
/// so that they keep the same.
const GOP_FRAMES_MAX: u32 = 250;

/// Pixels a side that every NVENC takes for H.264; the older ones' least width is 145.
const NVENC_PX_MIN: u32 = 160;
/// See [`NVENC_PX_MIN`].
const NVENC_PX_MAX: u32 = 4096;

/// An H.264 encoder that we know how to drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoder {
    /// NVIDIA's, on the GPU.
    Nvenc,
    /// x264, on the CPU.
    X264,
}

impl Encoder {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Nvenc, Self::X264];

    /// ffmpeg's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nvenc => "h264_nvenc",
            Self::X264 => "libx264",
        }
    }

    /// Whether it encodes pictures of this size. NVENC refuses what is smaller or larger.
    pub fn takes(self, (width, height): (u32, u32)) -> bool {
        match self {
            Self::Nvenc => {
                (NVENC_PX_MIN..=NVENC_PX_MAX).contains(&width)
                    && (NVENC_PX_MIN..=NVENC_PX_MAX).contains(&height)
            }
            Self::X264 => true,
        }
    }
}

/// What only one of the encoders knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knobs {
    /// NVENC: variable bit rate around a constant quality.
    Nvenc {
        /// p1 (fast) to p7 (slow).
        preset: u8,
        /// Quality, 0 (best) to 51.
        cq: u8,
    },
    /// x264: constant rate factor.
    X264 {
        /// Its preset.
        preset: &'static str,
        /// Quality, 0 (best) to 51.
        crf: u8,
        /// Threads.
        threads: usize,
    },
}

/// How H.264 is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What only this encoder knows.
    pub knobs: Knobs,
    /// Thousand bits a second that are never exceeded for long.
    pub maxrate_kbps: u32,
    /// Thousand bits over which the rate is measured.
    pub bufsize_kbit: u32,
    /// Frames between two keyframes.
    pub gop_frames_max: u32,
}

impl Plan {
    /// The plan for an encoder and pictures of up to 1080p; `threads` is for encoders on the CPU.
    ///
    /// Both stand at 23 of the same scale of quantisers, under the same cap. NVENC's side is the old
    /// system's choice and could not be measured where this was written.
    pub fn new(encoder: Encoder, threads: usize) -> Self {
        let knobs = match encoder {
            Encoder::Nvenc => Knobs::Nvenc { preset: 4, cq: 23 },
            Encoder::X264 => Knobs::X264 {
                preset: "veryfast",
                crf: 23,
                threads,
            },
        };
        Self {
            knobs,
            maxrate_kbps: MAXRATE_KBPS,
            bufsize_kbit: 2 * MAXRATE_KBPS,
            gop_frames_max: GOP_FRAMES_MAX,
        }
    }

    /// The same for pictures of this size: the cap grows with the pixels above 1080p, and stays
    /// below, where the quality alone decides and no cap is ever met.
    #[must_use]
    pub fn sized(&self, (width, height): (u32, u32)) -> Self {
        let pixels = u128::from(width) * u128::from(height);
        let grown = u128::from(MAXRATE_KBPS) * pixels / u128::from(PICTURE_PX);
        let maxrate_kbps = u32::try_from(grown)
            .unwrap_or(u32::MAX)
            .clamp(MAXRATE_KBPS, u32::MAX / 2);
        Self {
            maxrate_kbps,
            bufsize_kbit: 2 * maxrate_kbps,
            ..*self
        }
    }

    /// Whose plan it is.
    pub fn encoder(&self) -> Encoder {
        match self.knobs {
            Knobs::Nvenc { .. } => Encoder::Nvenc,
            Knobs::X264 { .. } => Encoder::X264,
        }
    }

    /// The encoder's arguments, pixel format and profile included.
    pub fn args(&self) -> Args {
        let args = match self.knobs {
            Knobs::Nvenc { preset, cq } => Args::words("-c:v h264_nvenc").and(&format!(
                "-preset p{preset} -tune hq -rc vbr -cq {cq} -b:v 0"
            )),
            Knobs::X264 {
                preset,
                crf,
                threads,
            } => Args::words("-c:v libx264")
                .and(&format!("-preset {preset} -crf {crf} -threads {threads}")),
        };
        let Self {
            maxrate_kbps,
            bufsize_kbit,
            gop_frames_max,
            ..
        } = self;
        args.and(&format!(
            "-maxrate {maxrate_kbps}k -bufsize {bufsize_kbit}k"
        ))
        .and(&format!(
            "-g {gop_frames_max} -profile:v high -pix_fmt yuv420p"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exact arguments, in order.
    fn same(args: &Args, words: &str) {
        assert_eq!(format!("{args:?}"), format!("{:?}", Args::words(words)));
    }

    #[test]
    fn the_arguments_are_exactly_these() {
        same(
            &Plan::new(Encoder::Nvenc, 8).args(),
            "-c:v h264_nvenc -preset p4 -tune hq -rc vbr -cq 23 -b:v 0 \
             -maxrate 10000k -bufsize 20000k -g 250 -profile:v high -pix_fmt yuv420p",
        );
        same(
            &Plan::new(Encoder::X264, 8).args(),
            "-c:v libx264 -preset veryfast -crf 23 -threads 8 \
             -maxrate 10000k -bufsize 20000k -g 250 -profile:v high -pix_fmt yuv420p",
        );
        same(
            &Plan::new(Encoder::Nvenc, 1).sized((3840, 2160)).args(),
            "-c:v h264_nvenc -preset p4 -tune hq -rc vbr -cq 23 -b:v 0 \
             -maxrate 40000k -bufsize 80000k -g 250 -profile:v high -pix_fmt yuv420p",
        );
    }

    #[test]
    fn the_cap_grows_with_the_picture_above_1080p() {
        let cap = |width, height| {
            let plan = Plan::new(Encoder::X264, 1).sized((width, height));
            assert_eq!(plan.bufsize_kbit, 2 * plan.maxrate_kbps);
            plan.maxrate_kbps
        };
        assert_eq!(cap(64, 64), 10_000);
        assert_eq!(cap(1080, 1920), 10_000);
        assert_eq!(cap(2560, 1440), 17_777);
        assert_eq!(cap(3840, 3840), 71_111);
        assert_eq!(cap(8192, 8192), 323_634);
        assert_eq!(cap(u32::MAX, u32::MAX), u32::MAX / 2);
    }

    #[test]
    fn what_nvenc_refuses_is_known() {
        let sizes = [
            ((64, 64), false),
            ((160, 160), true),
            ((4096, 2304), true),
            ((4098, 160), false),
        ];
        for (size, taken) in sizes {
            assert_eq!(Encoder::Nvenc.takes(size), taken, "{size:?}");
            assert!(Encoder::X264.takes(size));
        }
    }
}
