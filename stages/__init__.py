"""One room per stage; stages meet only through artefacts on disk."""
