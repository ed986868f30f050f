class FrameHandler:
    waits: bool
    connect_first: bool
