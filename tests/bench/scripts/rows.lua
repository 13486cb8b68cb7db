local template = require "greenfcgi.template"

function main(env, con)
  con:header("Content-Type", "text/html; charset=utf-8")
  con:puts(template.render("rows", { title = "Orders & more" }))
end
