"""HGN and the pixel HNN on videos: runs, table 1 and figures."""
