"""The service: videos and prompts in, edits out, over HTTP. Needs the extra `serve`.

Three kinds of processes share a database and a folder: the server, which answers requests and decodes nothing; a pool
of workers, which edits; and short-lived ones that look at uploads. Start reading at `app.py` and `lifecycle.py`.
"""
