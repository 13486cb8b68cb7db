function main(env, con)
  con:header("Content-Type", "text/html; charset=utf-8")
  con:puts("<!DOCTYPE html>\n<title>Stock</title>\n<table>\n<tr><th>No.</th><th>Article</th><th>Price</th></tr>\n")
  for number = 1, 50 do
    local price = string.format("%d.%02d", number * 37 % 100, number * 59 % 100)
    con:puts("<tr><td>" .. number .. "</td><td>Article " .. number .. "</td><td>" .. price .. "</td></tr>\n")
  end
  con:puts("</table>\n")
end
