#!/bin/sh
# Makes the clips that odd_master.py sends, in the folder $1: ffmpeg's test picture through libx264.
set -eu
mkdir -p "$1"
cd "$1"
[ -e made ] && exit 0

picture() { # DURATION, then the encoder's options, then the file
    seconds=$1
    shift
    ffmpeg -v error -nostdin -y -f lavfi -i "testsrc2=s=640x360:r=15:d=$seconds" -pix_fmt yuv420p \
        -c:v libx264 -preset veryfast -sc_threshold 0 -b:v 700k "$@"
}
annex_b() {
    ffmpeg -v error -nostdin -y -i "$1" -c copy -bsf:v h264_mp4toannexb,h264_metadata=aud=insert \
        -f h264 "$2"
}

aud="-bsf:v h264_metadata=aud=insert -f h264"
# shellcheck disable=SC2086
{
    picture 8 -profile:v baseline -g 30 -tune zerolatency \
        -x264-params sliced-threads=0:slices=1:repeat-headers=1 $aud usual.h264
    picture 8 -profile:v baseline -g 30 -x264-params sliced-threads=0:slices=4:repeat-headers=1 \
        $aud slices.h264
    picture 8 -profile:v main -g 30 -bf 0 -x264-params intra-refresh=1:repeat-headers=1:slices=1 \
        $aud refresh.h264
}
# One keyframe in 40 s; an SEI comes before its parameter sets.
picture 40 -profile:v baseline -g 600 -keyint_min 600 -tune zerolatency \
    -x264-params sliced-threads=0:slices=1 once.mkv
annex_b once.mkv sei-first.h264
picture 8 -profile:v main -g 30 -bf 2 -x264-params b-adapt=0:repeat-headers=1:slices=1 b.mkv
ffprobe -v error -select_streams v -show_entries packet=pts_time -of csv=p=0 b.mkv |
    tr -d , >b-frames.pts
annex_b b.mkv b-frames.h264
rm once.mkv b.mkv
touch made
