//! What can be typed about jobs.

use super::{pair, seconds};
use clap::Subcommand;
use std::path::PathBuf;

const IMG2VID: &str = "For img2vid";
const CAPTION: &str = "For caption";
const ADDAUDIO: &str = "For addaudio";
const ANY: &str = "For any job (over a JSON file's own)";

/// A job request, typed or in a file.
///
/// Inputs are addresses, or local files, which are uploaded first.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct RequestArgs {
    /// img2vid, caption or addaudio with its inputs; or a JSON file, or - for standard input
    #[arg(value_name = "OPERATION|FILE")]
    pub(crate) what: String,
    /// img2vid: pictures · caption: a video and its .srt · addaudio: a video and its sound
    #[arg(value_name = "INPUT")]
    pub(crate) inputs: Vec<String>,

    /// Seconds of each clip; once for all, or once for each picture
    #[arg(long, value_name = "SECONDS", help_heading = IMG2VID)]
    pub(crate) duration: Vec<f64>,
    /// zoom_in, zoom_out, pan_left, pan_right, pan_up, pan_down or still; once for all, or once for each picture
    #[arg(long, value_name = "MOTION", help_heading = IMG2VID)]
    pub(crate) motion: Vec<String>,
    /// Frames a second
    #[arg(long, value_name = "N", help_heading = IMG2VID)]
    pub(crate) frame_rate: Option<u32>,
    /// Pixels, even
    #[arg(long, value_name = "PIXELS", help_heading = IMG2VID)]
    pub(crate) width: Option<u32>,
    /// Pixels, even
    #[arg(long, value_name = "PIXELS", help_heading = IMG2VID)]
    pub(crate) height: Option<u32>,
    /// cover (fill and crop), contain (bars) or stretch
    #[arg(long, value_name = "FIT", help_heading = IMG2VID)]
    pub(crate) fit: Option<String>,
    /// fail (the first bad picture ends the job) or skip
    #[arg(long, value_name = "WHAT", help_heading = IMG2VID)]
    pub(crate) on_item_error: Option<String>,

    /// Font of the captions
    #[arg(long, value_name = "NAME", help_heading = CAPTION)]
    pub(crate) font: Option<String>,
    /// Size of the letters, percent of the height
    #[arg(long, value_name = "PERCENT", help_heading = CAPTION)]
    pub(crate) size: Option<f64>,
    /// Colour of the letters, such as #ffffff
    #[arg(long = "text-color", value_name = "COLOR", help_heading = CAPTION)]
    pub(crate) text_color: Option<String>,
    /// Colour of their outline
    #[arg(long, value_name = "COLOR", help_heading = CAPTION)]
    pub(crate) outline_color: Option<String>,
    /// Width of their outline
    #[arg(long, value_name = "NUMBER", help_heading = CAPTION)]
    pub(crate) outline_width: Option<f64>,
    /// Colour of the box behind them
    #[arg(long, value_name = "COLOR", help_heading = CAPTION)]
    pub(crate) background: Option<String>,
    /// Bold letters
    #[arg(long, help_heading = CAPTION)]
    pub(crate) bold: bool,
    /// Italic letters
    #[arg(long, help_heading = CAPTION)]
    pub(crate) italic: bool,
    /// Capital letters
    #[arg(long, help_heading = CAPTION)]
    pub(crate) uppercase: bool,
    /// bottom_center, or another of the nine places
    #[arg(long, value_name = "PLACE", help_heading = CAPTION)]
    pub(crate) position: Option<String>,
    /// Distance from the edge
    #[arg(long, value_name = "NUMBER", help_heading = CAPTION)]
    pub(crate) margin: Option<f64>,

    /// auto, or reencode
    #[arg(long, value_name = "HOW", help_heading = ADDAUDIO)]
    pub(crate) timing: Option<String>,

    /// high, normal or low
    #[arg(long, value_name = "PRIORITY", help_heading = ANY)]
    pub(crate) priority: Option<String>,
    /// The job fails if it takes longer: 90s, 15m, 2h (at most 1d)
    #[arg(long, value_name = "DURATION", value_parser = seconds, help_heading = ANY)]
    pub(crate) deadline: Option<u64>,
    /// Echoed in every status and event; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, help_heading = ANY)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Told of this job's events
    #[arg(long, value_name = "URL", help_heading = ANY)]
    pub(crate) webhook_url: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// Submitting again under the same key gives the same job [default: a new one each time]
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Follow the job to its end
    #[arg(long)]
    pub(crate) watch: bool,
    /// Follow the job to its end and download its outputs into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) fetch: Option<PathBuf>,
    /// Print the job's id and nothing else
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EstimateArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// job_…
    pub(crate) id: String,
    /// Download its outputs into this directory at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) fetch: Option<PathBuf>,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct ListArgs {
    /// accepted, running, completed, failed or cancelled
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// caption, img2vid or addaudio
    #[arg(long)]
    pub(crate) operation: Option<String>,
    /// RFC 3339, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) created_after: Option<String>,
    /// RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) created_before: Option<String>,
    /// Only jobs whose metadata has this value; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) metadata: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) page: PageArgs,
}

/// How much of a list.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct PageArgs {
    /// Rows at most [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Every row there is
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Where the page before ended
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutputsCommand {
    /// List them, in the order of the request
    List {
        /// job_…
        id: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Delete them from the bucket, for good
    Delete {
        /// job_…
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}
