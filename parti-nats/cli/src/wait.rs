//! `parti wait`: for scripts and pipelines.

use parti_nats::Picture;
use serde_json::json;

use crate::arguments::{Global, Wait};
use crate::connect::Link;
use crate::failure::{FINE, Failure, NO};
use crate::look::{Outlook, sentence};
use crate::show::{print, print_json};

pub(crate) async fn wait(global: &Global, what: Wait) -> Result<u8, Failure> {
    let Wait::Settled { at_most } = what;
    let link = Link::open(global).await?;
    let observer = link.observe().await?;
    let is_settled = |picture: &Picture| Outlook::of(picture).is_settled();
    // Whether it came to be in time, the picture says.
    let waited = observer.wait_for(at_most, is_settled).await;
    let picture = waited.unwrap_or_else(|_| observer.snapshot());
    let outlook = Outlook::of(&picture);
    let settled = outlook.is_settled();
    let text = sentence(&picture, &outlook);
    if global.json {
        let fields = json!({ "settled": settled, "sentence": text, "waits_for": outlook.waits });
        print_json("wait", link.group.as_str(), fields)?;
    } else {
        print(&(text + "\n"))?;
    }
    Ok(if settled { FINE } else { NO })
}
