-- Everything that the web server says about the request. Its page is views/env.html.

local template = require "greenfcgi.template"

function main(env, con)
    local names = {}
    for name in pairs(env) do names[#names + 1] = name end
    table.sort(names)

    con:header("Content-Type", "text/html; charset=utf-8")
    con:puts(template.render("env", { names = names, env = env }))
end
