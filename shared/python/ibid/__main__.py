"""``python -m ibid worker``: how the daemon starts Python processes."""

import sys

if sys.argv[1:] == ["worker"]:
    from ibid._worker import main

    main()
else:
    sys.exit("this is started by the ibid daemon; the command for people is 'ibid'")
