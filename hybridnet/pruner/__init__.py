"""When a job of a sweep ends before its last epoch because others do better."""
