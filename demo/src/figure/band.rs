//! The bands of a bar: the requests of home, those of each peer, and those that failed.

use plotters::prelude::RGBColor;

/// The peers that have a colour of their own.
pub const MOST_PEERS: usize = 5;

// Of Okabe and Ito's palette: apart from each other for the colour-blind, and in grey.
pub(super) const HOME: RGBColor = RGBColor(0, 114, 178);
pub(super) const PEERS: [RGBColor; MOST_PEERS] = [
    RGBColor(240, 173, 40),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(240, 228, 66),
];
pub(super) const FAILED: RGBColor = RGBColor(20, 20, 20);

/// A part of each bar.
pub struct Band {
    /// Its text in the legend
    pub label: String,
    /// Its colour
    pub color: RGBColor,
}

/// The bands of a home and its peers, and of the requests that none of them answered well, of which the legend says `failed`.
/// There are at most [`MOST_PEERS`] peers.
pub fn bands(home: &str, peers: &[&str], failed: &str) -> Vec<Band> {
    let of = |label: String, color| Band { label, color };
    let answered = |name: &str, what: &str| format!("answered by {name} ({what})");
    let home = of(answered(home, "home"), HOME);
    let short = peers.len() > 1;
    let peers = peers.iter().zip(PEERS).map(|(name, color)| match short {
        true => of((*name).to_owned(), color),
        false => of(answered(name, "peer"), color),
    });
    let failed = of(failed.to_owned(), FAILED);
    [home].into_iter().chain(peers).chain([failed]).collect()
}
