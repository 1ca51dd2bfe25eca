from llmval_tui.cli import main

raise SystemExit(main())
