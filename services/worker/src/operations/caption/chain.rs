//! The filters that a picture goes through before and after its captions are drawn.
//!
//! Guarantee: what comes out is 8-bit 4:2:0 with even sides and square pixels, and its colour tags
//! are true: light beyond what such a picture can show is mapped into it, RGB becomes BT.709.

use crate::media::probe::Stream;

/// 4:2:0 has even sides: a row or column is cut off.
const EVEN: &str = "crop=trunc(iw/2)*2:trunc(ih/2)*2";
/// Only pictures of wide pixels change; players differ in what they make of those.
const SQUARE: &str =
    "scale=w='if(gt(abs(sar-1),0.001),min(max(trunc(iw*sar/2)*2,2),8192),iw)':h=ih,setsar=1";
const CAPTIONS: &str = "ass=captions.ass:shaping=complex";

/// The filters for a stream, as ffmpeg reads them.
pub(super) fn of(picture: &Stream) -> String {
    let mut filters = vec![EVEN.to_owned()];
    let fields = picture.field_order.as_deref();
    if fields.is_some_and(|order| matches!(order, "tt" | "bb" | "tb" | "bt")) {
        // One frame stays one frame; frames that are not two fields stay as they are.
        filters.push("bwdif=mode=send_frame:deint=interlaced".to_owned());
    }
    filters.push(to_8_bit(picture));
    filters.extend([SQUARE, CAPTIONS].map(str::to_owned));
    filters.join(",")
}

fn to_8_bit(picture: &Stream) -> String {
    let format = picture.pix_fmt.as_deref().unwrap_or_default();
    let is_rgb = ["gbr", "rgb", "bgr", "argb", "abgr", "0rgb", "0bgr", "pal8"]
        .iter()
        .any(|name| format.starts_with(name));
    match picture.color_transfer.as_deref() {
        // What is as white as paper has 203 cd/m² there (ITU-R BT.2408) and is nearly white here.
        Some(transfer @ ("smpte2084" | "arib-std-b67")) => format!(
            "zscale=tin={transfer}:pin=bt2020:min=bt2020nc:t=linear:npl=203,format=gbrpf32le,\
             zscale=p=bt709,tonemap=mobius:desat=0,zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
        ),
        _ if is_rgb => {
            "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,setparams=range=tv\
             :color_primaries=bt709:color_trc=bt709:colorspace=bt709"
                .to_owned()
        }
        _ if format.starts_with("yuvj") || picture.color_range.as_deref() == Some("pc") => {
            "scale=out_range=tv,format=yuv420p,setparams=range=tv".to_owned()
        }
        _ => "format=yuv420p,setparams=range=tv".to_owned(),
    }
}
