-- A page written in Markdown, views/welcome.md, which a library of Python's makes HTML of: _lib/markdown_text.py.
--
-- It needs Python-Markdown (pip install markdown), and two lines in config.toml:
--
--     [modules]
--     markdown = "lua_scripts._lib.markdown_text"

local template = require "greenfcgi.template"

function main(env, con)
    local is_there, markdown = pcall(require, "markdown")
    if not is_there then
        con:status(501)
        con:puts("This page needs [modules] in config.toml, see the comment in markdown.lua.\n")
        return
    end
    local file = assert(io.open("views/welcome.md"))
    local text = file:read("*a")
    file:close()

    con:header("Content-Type", "text/html; charset=utf-8")
    con:puts(template.render("markdown", { text = markdown.html(text) }))
end
