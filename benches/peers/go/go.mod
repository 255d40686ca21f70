module wharf-bench-peer

go 1.19
